package outbox_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// The tests that kill processes start this binary again in one of these roles.
const roleVariable = "OUTBOX_TEST_ROLE"

// TestMain runs the tests on SQLite, and if all are run, on PostgreSQL too.
// OUTBOX_TEST_DATABASE=postgres runs them only on PostgreSQL.
func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(pgtest.RunOnBoth(m))
}
