//go:build unix

package outbox_test

import "syscall"

// stall stops a process as if its machine had frozen; resume lets it go on as if
// nothing had been.
func (p *process) stall() error  { return p.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.Process.Signal(syscall.SIGCONT) }
