"""Where a session's data come from by themselves: live sensors, or a recording."""
