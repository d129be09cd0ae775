"""Reports of searches and ablations: tables, figures, pages."""
