package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// tables are the tables of one outbox, and the statements about them.
type tables struct {
	dialect dialect
	name    string
	prefix  string // of the names of the tables, with the schema
	// Clock, if it is set, replaces this machine's clock for a database that uses that.
	Clock func() time.Time

	compiled sync.Map // statement as it is written: statement
}

func newTables(kind Kind, name string) tables {
	return tables{dialect: dialects[kind], name: name, prefix: `"` + name + "_"}
}

// args are the arguments of a statement by name.
type args map[string]any

// statement is a statement in the words of the database.
type statement struct {
	text  string
	names []string // the names of its arguments
}

var marker = regexp.MustCompile(`@[a-z_]+|\{[a-z]+\}`)

// compile translates a statement for the database: {queue} is the name of a table, {now} the
// time, and @seq an argument.
func (t *tables) compile(text string) statement {
	if found, ok := t.compiled.Load(text); ok {
		return found.(statement)
	}
	var st statement
	index := make(map[string]int)
	argument := func(name string) string {
		if index[name] == 0 {
			st.names = append(st.names, name)
			index[name] = len(st.names)
		}
		return fmt.Sprint(t.dialect.placeholder, index[name])
	}
	st.text = marker.ReplaceAllStringFunc(text, func(found string) string {
		switch name := strings.Trim(found, "@{}"); {
		case found[0] == '@':
			return argument(name)
		case name == "now" && t.dialect.now == "":
			return "CAST(" + argument("now") + " AS bigint)"
		case name == "now":
			return t.dialect.now
		case name == "durable":
			return t.dialect.durable
		case name == "lazily" && t.dialect.lazy == "":
			return ""
		case name == "lazily":
			return "FROM " + t.dialect.lazy + " AS l"
		default:
			return t.table(name)
		}
	})
	t.compiled.Store(text, st)
	return st
}

// table returns the name of a table as a statement has it.
func (t *tables) table(name string) string { return t.prefix + name + `"` }

// clock returns this machine's time.
func (t *tables) clock() time.Time {
	if t.Clock != nil {
		return t.Clock()
	}
	return time.Now()
}

func (st statement) values(given args, clock func() time.Time) []any {
	values := make([]any, len(st.names))
	for i, name := range st.names {
		value, ok := given[name]
		if !ok && name == "now" {
			value, ok = clock().UnixMicro(), true
		}
		if !ok {
			panic("outbox: a statement has no argument " + name)
		}
		values[i] = value
	}
	return values
}

// exec runs a statement, and returns how many rows it has changed.
func (t *tables) exec(ctx context.Context, on runner, text string, given args) (int64, error) {
	st := t.compile(text)
	result, err := on.ExecContext(ctx, st.text, st.values(given, t.clock)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query runs a statement, and calls scan for each row. scan must not send another statement:
// there may be only one connection.
func (t *tables) query(ctx context.Context, on runner, text string, given args, scan func(*sql.Rows) error) error {
	st := t.compile(text)
	rows, err := on.QueryContext(ctx, st.text, st.values(given, t.clock)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// in returns the condition that the expression before it is in the result of a query, in a form
// that runs the query first. {skip} in the query skips rows that are locked, if the database
// locks rows.
func (t *tables) in(query string) string {
	if t.dialect.locks {
		return "= ANY(ARRAY(" + strings.ReplaceAll(query, "{skip}", "FOR UPDATE SKIP LOCKED") + "))"
	}
	return "IN (" + strings.ReplaceAll(query, "{skip}", "") + ")"
}

// among returns the condition that a row's seq is one of these.
func (t *tables) among(seqs *array, given args) string { return t.oneOf("seq", "bigint", seqs, given) }

// oneOf returns the condition that a row's column is one of some values.
func (t *tables) oneOf(column, kind string, values *array, given args) string {
	if t.dialect.locks {
		given["values"] = values.String()
		return column + " = ANY(CAST(@values AS " + kind + "[]))"
	}
	given["values"] = values.json()
	return column + " IN (SELECT value FROM json_each(@values))"
}

// durably makes a statement that changes one table wait for the disk.
func (t *tables) durably(update string) string {
	if t.dialect.durable == "" {
		return update
	}
	return update + " AND (SELECT durable FROM {durable} AS d) IS NOT NULL"
}
