package main

import (
	"strings"
	"unicode/utf8"
)

// gap is between two columns of a table.
const gap = "  "

// aligned returns rows as lines with their cells beneath each other. The first left columns are
// aligned to the left, and the others to the right.
func aligned(rows [][]string, left int) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString(gap)
			}
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < left {
				line.WriteString(cell + padding)
			} else {
				line.WriteString(padding + cell)
			}
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// dots stand for what is left out of a text.
const dots = "..."

// longWord is the length in bytes from which a word is cut and not left out, such as a URL.
const longWord = 12

// cut returns a text in at most that many columns, 0 for no limit. Dots stand for what is left
// out after the last word that fits.
func cut(text string, columns int) string {
	runes := []rune(text)
	switch {
	case columns <= 0 || len(runes) <= columns:
		return text
	case columns <= len(dots):
		return string(runes[:columns])
	}
	kept := string(runes[:columns-len(dots)])
	if runes[columns-len(dots)] != ' ' {
		if space := strings.LastIndex(kept, " "); space >= max(1, len(kept)-longWord) {
			kept = kept[:space]
		}
	}
	return strings.TrimRight(kept, " ,;:") + dots
}

// shortened returns an ID in at most that many columns, with dots for its middle: many IDs have
// the same beginning or the same end.
func shortened(id string, columns int) string {
	runes := []rune(id)
	if columns <= 0 || len(runes) <= columns {
		return id
	}
	room := max(0, columns-len(dots))
	return string(runes[:room-room/2]) + dots + string(runes[len(runes)-room/2:])
}

// wrapped returns a text as lines of at most that many columns, 0 for no limit, broken between
// words. The first line begins with a heading, and the others are indented to its width.
func wrapped(heading, text string, columns int) []string {
	indent := strings.Repeat(" ", utf8.RuneCountInString(heading))
	room := columns - len(indent)
	if columns <= 0 || room < 10 {
		return []string{heading + text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > room && line == "" { // a long word, such as a wamid, is broken
			runes := []rune(word)
			lines = append(lines, string(runes[:room]))
			word = string(runes[room:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= room:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	for i := range lines {
		lines[i] = indent + lines[i]
	}
	lines[0] = heading + strings.TrimPrefix(lines[0], indent)
	return lines
}
