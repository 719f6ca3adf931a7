"""Reading the files that the FLAME community has, without running what is in them."""
