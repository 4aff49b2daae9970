package outbox_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/graphretry/graphretry/outbox/internal/pgtest"
)

// The tests that kill processes start this binary again, in one of these roles.
const roleVariable = "OUTBOX_TEST_ROLE"

// TestMain runs the tests on SQLite, and then, where all are run, once more on PostgreSQL.
// By hand, OUTBOX_TEST_DATABASE=postgres has them run on that.
func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := pgtest.Run(m)
	_, chosen := os.LookupEnv(kindVariable)
	if code != 0 || chosen || !runsAll() {
		os.Exit(code)
	}
	again := exec.Command(os.Args[0], withoutProfiles(os.Args[1:])...)
	again.Env = append(os.Environ(), kindVariable+"=postgres")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	fmt.Println("once more, on PostgreSQL:")
	if err := again.Run(); err != nil {
		os.Exit(1)
	}
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
