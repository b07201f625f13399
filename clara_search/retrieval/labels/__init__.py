"""Labels of the rows of tables: those that they have, and those that a classifier gives them."""
