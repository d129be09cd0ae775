"""A report as a document: what it says in ``document``, and how that is written in HTML, Markdown and LaTeX."""
