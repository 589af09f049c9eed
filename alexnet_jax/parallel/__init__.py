"""Several devices: the ('data', 'column') mesh, several processes as one run, and what a column costs on a device."""
