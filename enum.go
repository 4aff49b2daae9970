package graphretry

import "strconv"

// enumText is the text of an enum's value. One that has no text, and so is none
// of the enum's, is its type's name and its number, as in "Class(42)".
func enumText[Enum ~int](name string, texts []string, value Enum) string {
	if value < 0 || int(value) >= len(texts) || texts[value] == "" {
		return name + "(" + strconv.Itoa(int(value)) + ")"
	}
	return texts[value]
}
