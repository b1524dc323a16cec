"""From a pipeline and a repository to quanta with their datasets."""
