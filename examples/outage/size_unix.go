//go:build linux || darwin

package main

import (
	"os"
	"syscall"
	"unsafe"
)

// windowSize returns the size of a terminal's window in characters, 0 by 0 for a
// file that is no terminal. It asks with the ioctl TIOCGWINSZ, which is
// golang.org/x/term's way too; one call is not worth a dependency.
func windowSize(file *os.File) (width, height int) {
	var window struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&window)))
	if errno != 0 {
		return 0, 0
	}
	return int(window.columns), int(window.rows)
}
