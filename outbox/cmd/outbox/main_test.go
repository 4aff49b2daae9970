package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/outboxtest"
)

func TestWrongCommandLineIsSaidSo(t *testing.T) {
	c := newOperator(t, "a", "b")
	for _, args := range [][]string{
		{}, {"fly"}, {"-fly"}, {"stats", "a"}, {"stats", "-fly"}, {"-name", "", "stats"}, {"stats", "-db", ""},
		{"schema", "-dialect", "oracle"}, {"schema", "-name", "A"}, {"schema", "a"},
		{"show"}, {"show", "a", "b"}, {"show", "-a"},
		{"list", "a"}, {"list", "-code", "x"}, {"list", "-code", "-1"}, {"list", "-code", "0"}, {"list", "-limit", "-1"}, {"list", "-older", "-1m"},
		{"list", "-older", "soon"}, {"list", "-state", "faild"}, {"list", "-after", ""}, {"list", "-changed-after", "yesterday"},
		{"drop"}, {"drop", "-yes"}, {"drop", "-json"}, {"drop", "-state", "queued", "a"}, {"drop", "a", "-yes"}, {"drop", "-state", "sent"}, {"resend", "-state", "queued"},
		{"park", "-state", "sent"}, {"drop", "-label", ""}, {"drop", "-older", ""}, {"drop", "-changed-after", ""},
		{"delete"}, {"delete", "-yes", "-number", ""}, {"delete", "-yes", "-state", ""}, {"delete", "-yes", "-code", "0"}, {"delete", "-state", "sending"},
		{"pause", "1", "2"}, {"pause", ""}, {"resume", "-x"},
		{"enqueue", "a"}, {"enqueue", "-not-before", "soon", "a", "1"}, {"enqueue", "-label", "", "a", "1"},
		{"top", "a"}, {"top", "-every", "0s"}, {"top", "-n", "-1"},
	} {
		out, err := c.do(payload, args...)
		assert.ErrorIs(t, err, errUsage, fmt.Sprint(args))
		assert.Regexp(t, `; see outbox (\w+ )?-h$`, fmt.Sprint(err), fmt.Sprint(args))
		assert.Empty(t, out, fmt.Sprint(args))
	}
	assert.Equal(t, outbox.StateQueued, c.State("a"))
	assert.Equal(t, outbox.StateQueued, c.State("b"))
}

// A person who asks for help has no database yet, and a terminal of 80 columns.
func TestHelpFitsATerminalAndNeedsNoDatabase(t *testing.T) {
	t.Setenv(databaseVariable, "postgres://user:secret@host/name")
	help := func(args ...string) string {
		var out bytes.Buffer
		err := run(t.Context(), args, streams{out: &out, err: io.Discard, size: noTerminal})
		require.ErrorIs(t, err, flag.ErrHelp)
		for line := range strings.Lines(out.String()) {
			assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 79, "%v: %s", args, line)
			assert.NotContains(t, line, "\t")
			assert.NotContains(t, line, "(default )")
		}
		assert.NotContains(t, out.String(), "secret")
		return out.String()
	}
	all := help("-h")
	for _, v := range verbs() {
		assert.Contains(t, all, "\n  "+v.name+" ")
		one := help("-db", "postgres://user:secret@host/name", v.name, "-h")
		assert.Contains(t, one, "usage: outbox "+v.name+" [flags]")
		assert.Contains(t, one, "-json")
	}
	assert.Contains(t, help("drop", "-h"), "-label label")
}

func TestCommonFlagsStandBeforeOrAfterTheVerb(t *testing.T) {
	c := newOperator(t, "a")
	for _, args := range [][]string{{"-db", c.where, "-json", "list"}, {"list", "-db", c.where, "-json"}, {"-json", "list", "-db", c.where}, {"-db", "elsewhere", "list", "-json", "-db", c.where}} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), args, streams{out: &out, err: io.Discard, size: noTerminal}), args)
		assert.Contains(t, out.String(), `"id":"a"`, args)
	}
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// TestJSONIsAnObjectALineWithNamesInSnakeCase goes through all verbs that print.
func TestJSONIsAnObjectALineWithNamesInSnakeCase(t *testing.T) {
	c := newOperator(t)
	c.Send()
	c.Becomes("sent", outbox.StateSent)
	c.Becomes("failed", outbox.StateFailed, outboxtest.Refused)
	c.must("", "pause", number)
	c.must(payload, "enqueue", "-label", "june", "queued", number)
	var check func(args string, value any, keys bool)
	check = func(args string, value any, keys bool) {
		switch value := value.(type) {
		case map[string]any:
			for name, inner := range value {
				assert.True(t, !keys || snakeCase.MatchString(name), "%s: %s", args, name)
				check(args, inner, name != "numbers" && name != "labels")
			}
		case []any:
			for _, inner := range value {
				check(args, inner, true)
			}
		}
	}
	for _, this := range []struct {
		args string
		want []string
	}{
		{"stats", []string{"at", "states", "waiting_since", "paused", "numbers", "labels", "runs"}},
		{"top -n 1", []string{"at", "states", "waiting_since", "paused", "numbers", "labels", "runs", "oldest_queued", "last_failed_or_unknown"}},
		{"list -state failed", []string{"id", "phone_number_id", "state", "why", "reason", "graph", "retries", "enqueued_at", "changed_at"}},
		{"show sent", []string{"id", "phone_number_id", "state", "message_id", "retries", "enqueued_at", "changed_at"}},
		{"show queued", []string{"id", "phone_number_id", "label", "state", "why", "retries", "enqueued_at", "changed_at"}},
		{"enqueue again " + number, []string{"id", "phone_number_id", "state", "retries", "enqueued_at", "changed_at"}},
		{"pause", []string{"paused"}},
		{"resume 222", []string{"phone_number_id", "paused"}},
		{"health", []string{"healthy"}},
		{"schema", []string{"sql"}},
		{"drop -dry-run -label june", []string{"decision", "meant", "sending", "done", "dry_run"}},
		{"resend failed", []string{"decision", "meant", "sending", "done"}},
		{"delete -yes -state sent", []string{"decision", "meant", "sending", "done"}},
	} {
		args := this.args
		var document map[string]any
		out, err := c.do(payload, append([]string{"-json"}, strings.Fields(args)...)...)
		require.NoError(t, err, args)
		require.Equal(t, 1, strings.Count(out, "\n"), out)
		require.NoError(t, json.Unmarshal([]byte(out), &document), out)
		check(args, document, true)
		for _, name := range this.want {
			assert.Contains(t, document, name, args)
		}
		assert.Len(t, document, len(this.want), "%s: %s", args, out)
	}
}

func TestSchemaIsSQLAsItStands(t *testing.T) {
	where := newDatabase(t)
	db := openSQL(t, where)
	dialect := "sqlite"
	if strings.HasPrefix(where, "host=") {
		dialect = "postgres"
	}
	var schema bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"schema", "-dialect", dialect, "-name", "other"}, streams{out: &schema}))
	_, err := db.Exec(schema.String())
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-db", where, "-name", "other", "stats"}, streams{out: &out, err: io.Discard, size: noTerminal}))
	assert.Contains(t, out.String(), "all")
}

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	c := newOperator(t, "a", "b")
	for _, args := range []string{"stats", "list", "show a", "top -n 1", "-json list", "-json top -n 1", "health", "drop -yes a b"} {
		err := c.run(streams{out: fullWriter{}, err: io.Discard, size: noTerminal}, strings.Fields(args)...)
		assert.ErrorIs(t, err, errFull, args)
	}
	err := run(t.Context(), []string{"-h"}, streams{out: fullWriter{}, err: os.Stderr, size: noTerminal})
	assert.ErrorIs(t, err, errFull)
}
