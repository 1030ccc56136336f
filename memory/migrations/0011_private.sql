-- What was thought about something private: a place of its own, which no recall looks at unless it is told to.

SELECT add_packets_partition(2);
