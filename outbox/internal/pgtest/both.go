//go:build unix

package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variable names the environment variable for the database that tests run on: sqlite, or
// postgres.
const Variable = "OUTBOX_TEST_DATABASE"

// IsChosen reports whether tests run on PostgreSQL.
func IsChosen() bool { return os.Getenv(Variable) == "postgres" }

// RunOnBoth is [Run] on SQLite, and then, where all tests are run, once more on PostgreSQL. By
// hand, OUTBOX_TEST_DATABASE=postgres has them run on that.
func RunOnBoth(m *testing.M) int {
	code := Run(m)
	if _, chosen := os.LookupEnv(Variable); code != 0 || chosen || !runsAll() {
		return code
	}
	again := exec.Command(os.Args[0], withoutProfiles(os.Args[1:])...)
	again.Env = append(os.Environ(), Variable+"=postgres")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	fmt.Println("once more, on PostgreSQL:")
	if err := again.Run(); err != nil {
		return 1
	}
	return 0
}

// runsAll reports whether no test was left out.
func runsAll() bool {
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.run=") && arg != "-test.run=" || strings.HasPrefix(arg, "-test.list") || strings.HasPrefix(arg, "-test.fuzz") {
			return false
		}
	}
	return true
}

// withoutProfiles leaves out what would write over a file.
func withoutProfiles(args []string) (kept []string) {
	for _, arg := range args {
		if !strings.Contains(arg, "profile") && !strings.HasPrefix(arg, "-test.testlogfile") {
			kept = append(kept, arg)
		}
	}
	return kept
}
