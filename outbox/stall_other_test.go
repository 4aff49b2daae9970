//go:build !unix

package outbox_test

// There is no such signal here; the worker goes on.
func (p *process) stall() error  { return nil }
func (p *process) resume() error { return nil }
