package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
)

// textWidth is the width of the text where there is no picture.
const textWidth = 79

// wrapText breaks a text into lines of at most width, between words.
func wrapText(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// named is a code with its title, if it has one.
func named(code graphretry.Code) string {
	if title := code.Title(); title != "" {
		return fmt.Sprintf("%d (%s)", code, title)
	}
	return fmt.Sprint(int(code))
}

// seconds is a time as in "12.3 s".
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
