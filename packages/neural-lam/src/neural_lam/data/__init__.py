"""Reading gridded data: fields, forcing made from the time, statistics, training windows."""
