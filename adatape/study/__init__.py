"""Studies: what AdaTape's authors claim, trained and measured here, one result file a run."""
