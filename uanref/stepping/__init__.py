"""How a reader walks a derivation: in a terminal (``uanref step``) and on a page (``uanref explore``)."""
