package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// stats runs outbox stats with these arguments before it.
func stats(t *testing.T, args ...string) error {
	return run(t.Context(), append(args, "stats"), streams{out: io.Discard, err: io.Discard, size: noTerminal})
}

func TestNoPasswordIsPrinted(t *testing.T) {
	for _, database := range []string{
		"postgres://user:secret@127.0.0.1:1/x?connect_timeout=1", "postgres://user:sec#secret@host:port/x", "user:secret@host:port",
		"postgres://user:secret@%zz", "password=secret host", "host=127.0.0.1 port=1 user=u password=secret connect_timeout=1",
		"mysql://user:secret@host/x", "postgres:/user:secret@host/x", "user:secret@host/name", "password='secret' bad='",
	} {
		t.Setenv(databaseVariable, database)
		for _, args := range [][]string{{"stats"}, {"-h"}, {"stats", "-h"}, {"-fly"}, {"-db", database, "stats"}, {"stats", "-db", database}} {
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := run(ctx, args, streams{in: &out, out: &out, err: &out, size: noTerminal})
			cancel()
			require.Error(t, err)
			assert.NotContains(t, err.Error()+out.String(), "secret", database)
		}
	}
}

func TestDatabaseIsThatOfTheFlagOrElseOfTheEnvironment(t *testing.T) {
	t.Setenv(databaseVariable, "")
	err := stats(t)
	assert.ErrorIs(t, err, errUsage)
	assert.ErrorContains(t, err, "OUTBOX_DB")
	c := newOperator(t, "a")
	t.Setenv(databaseVariable, c.where)
	assert.NoError(t, stats(t))
	assert.Error(t, stats(t, "-db", filepath.Join(t.TempDir(), "none.db")), "the flag comes first")
	assert.ErrorIs(t, stats(t, "-db", ""), errUsage, "an empty variable of a script is not another database")
	t.Setenv(databaseVariable, "/none.db")
	assert.NoError(t, stats(t, "-db", c.where))
}

func TestKindOfTheDatabaseIsThatOfItsName(t *testing.T) {
	for text, postgres := range map[string]bool{
		"postgres://u@h/d": true, "postgresql:///d": true, "host=/run/postgresql dbname=shop": true, " user = u": true,
		"outbox.db": false, "file:outbox.db": false, "/var/lib/a b/x.db": false, "postgres": false, "c:\\x.db": false,
	} {
		p, err := placeOf(text)
		require.NoError(t, err, text)
		assert.Equal(t, postgres, p.postgres != nil, text)
		if !postgres {
			assert.Equal(t, strings.TrimPrefix(text, "file:"), p.file)
		}
	}
	for _, text := range []string{"mysql://u@h/d", "sqlite://x.db", "https://h/"} {
		_, err := placeOf(text)
		assert.ErrorContains(t, err, "a URL of another kind", text)
	}
	dir := t.TempDir()
	odd := filepath.Join(dir, "a@b=c.db")
	require.NoError(t, os.WriteFile(odd, nil, 0o600))
	p, err := placeOf(odd)
	require.NoError(t, err)
	assert.Equal(t, odd, p.file)
}

func TestFileThatIsNoOutboxIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none.db")
	assert.ErrorContains(t, stats(t, "-db", none), "none.db")
	assert.NoFileExists(t, none)
	for name, content := range map[string]string{"empty.db": "", "text.db": strings.Repeat("a text ", 1000)} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		assert.ErrorContains(t, stats(t, "-db", file), name+" is not a SQLite database")
		now, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, content, string(now))
	}
	assert.Error(t, stats(t, "-db", dir), "a directory")
}

func TestServerThatCannotBeReachedIsSaidSoAtOnce(t *testing.T) {
	err := stats(t, "-db", "host="+t.TempDir()+" user=postgres")
	assert.ErrorContains(t, err, "cannot reach the database: ")
	assert.NotErrorIs(t, err, context.DeadlineExceeded, "it is not asked again and again")
}

func TestTablesThatThisProgramDoesNotKnowAreSaidSo(t *testing.T) {
	c := newOperator(t, "a")
	assert.ErrorContains(t, stats(t, "-db", c.where, "-name", "other"), `there is no outbox "other"`)
	assert.ErrorIs(t, stats(t, "-db", c.where, "-name", "O"), outbox.ErrInvalid)
	_, err := openSQL(t, c.where).Exec("UPDATE graphretry_meta SET value = '9' WHERE key = 'version'")
	require.NoError(t, err)
	err = stats(t, "-db", c.where)
	assert.ErrorContains(t, err, "version 9")
	assert.ErrorContains(t, err, "want a newer program")
}
