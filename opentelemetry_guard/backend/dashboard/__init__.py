"""What people see, and the rules that they make."""
