package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox/sqlite"
)

func TestFileIsOpenedAsAnOutboxWantsIt(t *testing.T) {
	for _, name := range []string{"a.db", "with space.db", "100%?x=1&y#z.db", "ä:b.db"} {
		path := filepath.Join(t.TempDir(), name)
		db, err := sqlite.Open(path)
		require.NoError(t, err, name)
		_, err = db.Exec("CREATE TABLE t (x)")
		require.NoError(t, err)
		assert.FileExists(t, path)
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
			var got string
			require.NoError(t, db.QueryRow("PRAGMA "+pragma).Scan(&got))
			assert.Equal(t, want, got, pragma)
		}
		require.NoError(t, db.Close())
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	for _, path := range []string{"", ":memory:", "file::memory:", "file:x?mode=memory", "/no/such/directory/x.db", "\x00"} {
		_, err := sqlite.Open(path)
		assert.ErrorContains(t, err, "sqlite: ", path)
	}
}
