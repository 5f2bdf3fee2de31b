"""Files of fields: opened, understood by the CF conventions, and read by names."""
