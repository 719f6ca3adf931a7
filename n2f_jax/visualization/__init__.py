"""Drawing: meshes as pictures, panels, and sheets of them."""
