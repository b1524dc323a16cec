"""Making a provenance graph a part of its repository, in place of the files whose content it holds."""
