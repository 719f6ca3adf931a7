"""A page for a photograph: ``n2f app``. What it does is plain Python; only ``page`` knows gradio."""
