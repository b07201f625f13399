"""The texts of a table by their words: LanceDB's full-text index over the column `text`."""
