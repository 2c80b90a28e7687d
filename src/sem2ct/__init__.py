"""SEM detail brought into micro-CT volumes of rock."""
