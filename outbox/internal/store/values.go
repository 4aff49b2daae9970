package store

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// array is an array in PostgreSQL's text format, which every driver and every protocol can
// carry.
type array struct{ strings.Builder }

var arrayEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (a *array) text(element string) {
	a.separate()
	a.WriteByte('"')
	_, _ = arrayEscapes.WriteString(&a.Builder, element)
	a.WriteByte('"')
}

func (a *array) plain(element string) {
	a.separate()
	a.WriteString(element)
}

func (a *array) separate() {
	if a.Len() == 0 {
		a.WriteByte('{')
	} else {
		a.WriteByte(',')
	}
}

// String returns the array, which may be empty.
func (a *array) String() string {
	if a.Len() == 0 {
		return "{}"
	}
	return a.Builder.String() + "}"
}

// json returns an array as JSON.
func (a *array) json() string { return "[" + strings.Trim(a.String(), "{}") + "]" }

// flag returns a boolean as SQLite keeps it.
func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

// micro returns a time as a table has it: microseconds since 1970, 0 for none.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
