"""Methods: from a target to weighted samples and an evidence."""
