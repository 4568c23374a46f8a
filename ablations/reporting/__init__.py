"""The report: tables, figures and sentences as Quarto fragments, and their rendering."""
