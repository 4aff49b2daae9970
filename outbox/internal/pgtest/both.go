//go:build unix

package pgtest

import (
	"bytes"
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

// RunOnBoth is [Run] on SQLite, and where all tests are run at the same time once more, in a
// process of its own, on PostgreSQL: they mostly wait. What that prints comes afterwards. By
// hand, OUTBOX_TEST_DATABASE=postgres has them run on that alone.
func RunOnBoth(m *testing.M) int {
	if _, chosen := os.LookupEnv(Variable); chosen || !runsAll() {
		return Run(m)
	}
	again := exec.Command(os.Args[0], withoutProfiles(os.Args[1:])...)
	again.Env = append(os.Environ(), Variable+"=postgres")
	var output bytes.Buffer
	again.Stdout, again.Stderr = &output, &output
	err := again.Start()
	code := Run(m)
	if err == nil {
		err = again.Wait()
	}
	fmt.Println("once more, on PostgreSQL:")
	_, _ = output.WriteTo(os.Stdout)
	if err != nil {
		fmt.Println("on PostgreSQL:", err)
		return 1
	}
	return code
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
