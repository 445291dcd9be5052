"""From what a run left in the store to the tables of its report, and the report into its folder."""
