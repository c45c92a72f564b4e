"""What edgeemo recognises, for robots that speak ROS 2."""
