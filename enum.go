package graphretry

import (
	"fmt"
	"slices"
	"strconv"
)

// enumText is the text of an enum's value. One that has no text, and so is none
// of the enum's, is its type's name and its number, as in "Class(42)".
func enumText[Enum ~int](name string, texts []string, value Enum) string {
	if value < 0 || int(value) >= len(texts) || texts[value] == "" {
		return name + "(" + strconv.Itoa(int(value)) + ")"
	}
	return texts[value]
}

// marshalEnum returns the text of an enum's value for an encoder, and no text for 0, which
// stands for none.
func marshalEnum[Enum ~int](name string, texts []string, value Enum) ([]byte, error) {
	text := enumText(name, texts, value)
	switch {
	case value == 0:
		return nil, nil
	case !slices.Contains(texts, text):
		return nil, fmt.Errorf("graphretry: %s has no text: want 1 to %d", text, len(texts)-1)
	}
	return []byte(text), nil
}

// unmarshalEnum reads what [marshalEnum] has written.
func unmarshalEnum[Enum ~int](name string, texts []string, value *Enum, text []byte) error {
	if len(text) == 0 {
		*value = 0
		return nil
	}
	i := slices.Index(texts, string(text))
	if i < 0 {
		return fmt.Errorf("graphretry: %q is no %s: want one of %q", text, name, texts[1:])
	}
	*value = Enum(i)
	return nil
}
