package oteloutbox

import "time"

// SetTimeout bounds what a collection waits for the database.
func SetTimeout(m *Metrics, timeout time.Duration) { m.timeout = timeout }
