//go:build windows

package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// terminalSize returns the size of a console, or 0 and 0 if the file is not a console or does
// not know control sequences.
func terminalSize(file *os.File) (columns, lines int) {
	console := windows.Handle(file.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil ||
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return 0, 0
	}
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(console, &info) != nil {
		return 0, 0
	}
	return sizeOr(int(info.Window.Right-info.Window.Left)+1, int(info.Window.Bottom-info.Window.Top)+1)
}

// isTerminal reports whether a file is a console.
func isTerminal(file *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(file.Fd()), &mode) == nil
}

// notifyOfSize returns no channel, since Windows has no signal for another size: the next look
// uses it.
func notifyOfSize() (resized <-chan os.Signal, ignore func()) { return nil, func() {} }
