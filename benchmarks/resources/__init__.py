"""What the board and the processes take: temperature, power, memory, sizes."""
