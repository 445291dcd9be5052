"""From files that others wrote to plain values, or to a UserError that says where the fault is."""
