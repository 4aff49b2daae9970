//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize returns the size of the terminal that a file is, 0 and 0 if it is none.
func terminalSize(file *os.File) (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return sizeOr(int(size.Col), int(size.Row))
}
