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

// Variable is the environment variable for the database that tests run on: sqlite, or postgres.
const Variable = "OUTBOX_TEST_DATABASE"

// IsChosen reports whether tests run on PostgreSQL.
func IsChosen() bool { return os.Getenv(Variable) == "postgres" }

// RunOnBoth is [Run] on SQLite. If all tests are run, they also run on PostgreSQL at the same
// time, in a process of its own, since they mostly wait. Its output comes afterwards.
// OUTBOX_TEST_DATABASE=postgres runs them only on PostgreSQL.
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

// withoutProfiles removes flags that would overwrite a file.
func withoutProfiles(args []string) (kept []string) {
	for _, arg := range args {
		if !strings.Contains(arg, "profile") && !strings.HasPrefix(arg, "-test.testlogfile") {
			kept = append(kept, arg)
		}
	}
	return kept
}
