package graphtest

import (
	"cmp"
	_ "embed" // for codes.csv
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/graphretry/graphretry"
)

//go:embed codes.csv
var codesCSV string

// documented is what Meta's pages say of a code. Status is 0 where they name none.
type documented struct {
	title  string
	status int
}

// A catalogue is codes.csv: single codes, and ranges that share a row.
type catalogue struct {
	codes  map[graphretry.Code]documented
	ranges []codeRange
}

type codeRange struct {
	first, last graphretry.Code
	documented
}

// theCatalogue reads the table when it is first asked for; it is never written
// again.
var theCatalogue = sync.OnceValue(func() catalogue { return parseCatalogue(codesCSV) })

func parseCatalogue(table string) catalogue {
	c := catalogue{codes: map[graphretry.Code]documented{}}
	lines, err := csv.NewReader(strings.NewReader(table)).ReadAll()
	if err != nil {
		return c // a test sees to it that the embedded table can be read
	}
	for _, line := range lines {
		firstText, lastText, isRange := strings.Cut(line[0], "-")
		first, err := strconv.Atoi(firstText)
		if err != nil {
			continue // the heading, and the row of a subcode ("100/33")
		}
		// Where Meta names several statuses, the first is the more usual one.
		statusText, _, _ := strings.Cut(line[2], "|")
		status, _ := strconv.Atoi(statusText)
		row := documented{title: line[1], status: status}
		if !isRange {
			c.codes[graphretry.Code(first)] = row
		} else if last, err := strconv.Atoi(lastText); err == nil {
			c.ranges = append(c.ranges, codeRange{graphretry.Code(first), graphretry.Code(last), row})
		}
	}
	return c
}

// lookUp takes what a code's own row leaves open from the range that it is in.
func (c catalogue) lookUp(code graphretry.Code) documented {
	row := c.codes[code]
	for _, r := range c.ranges {
		if r.first <= code && code <= r.last {
			row.title = cmp.Or(row.title, r.title)
			row.status = cmp.Or(row.status, r.status)
		}
	}
	row.title = cmp.Or(row.title, "Unknown error")
	row.status = cmp.Or(row.status, http.StatusBadRequest)
	return row
}

// Status returns the HTTP status of an answer with that code, as Meta documents it
// in
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes.
// Where that page names two, it is the first (503 for code 2, 400 for code 4); for a
// code without a documented status it is 400.
func Status(code graphretry.Code) int {
	return theCatalogue().lookUp(code).status
}
