//go:build unix

// Package pgtest starts PostgreSQL servers for tests.
package pgtest

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Server is a PostgreSQL server of a test's own.
type Server struct {
	programs string
	dir      string // the socket is here, and the data in dir/data
	settings []string
}

var (
	shared      *Server
	sharedError error
	sharedOnce  sync.Once
	schemas     atomic.Int64
)

// Run runs the tests of a package, for its TestMain, and then stops the server that
// [URL] has started.
func Run(m *testing.M) int {
	defer func() {
		if shared != nil {
			shared.remove()
		}
	}()
	return m.Run()
}

// URL returns the connection string of a schema of its own, which is empty, on a server
// that the tests of a package share. Without PostgreSQL the test is skipped.
func URL(t testing.TB) string {
	t.Helper()
	programs := find(t)
	// Nothing of it outlives the tests, so it needs no disk.
	sharedOnce.Do(func() { shared, sharedError = start(Memory(), programs, "max_connections=500") })
	if sharedError != nil {
		t.Fatalf("cannot start PostgreSQL: %v", sharedError)
	}
	return shared.Schema(t)
}

// Start starts a server with these settings, each as in "fsync=on". It ends with the test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := start("", find(t), settings...)
	if err != nil {
		t.Fatalf("cannot start PostgreSQL: %v", err)
	}
	t.Cleanup(s.remove)
	return s
}

// Schema makes a schema, and returns the connection string for it.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	db, err := sql.Open("pgx", s.url("public"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("test%d_%d", os.Getpid(), schemas.Add(1))
	if _, err := db.Exec("CREATE SCHEMA " + name); err != nil {
		t.Fatalf("cannot make a schema: %v", err)
	}
	return s.url(name)
}

func (s *Server) url(schema string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=postgres search_path=%s", s.dir, schema)
}

// Crash stops the server as a loss of power would, but for what the disk has. Go starts it
// again.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	if out, err := s.control("stop", "-m", "immediate").CombinedOutput(); err != nil {
		t.Fatalf("cannot crash PostgreSQL: %v\n%s", err, out)
	}
}

// Go starts the server again.
func (s *Server) Go(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatalf("cannot start PostgreSQL again: %v", err)
	}
}

// Backup takes a base backup of the server, and returns what starts a server from it: one that
// has the state of now.
func (s *Server) Backup(t testing.TB) (restore func() *Server) {
	t.Helper()
	copied := &Server{programs: s.programs, dir: s.dir + "-copy", settings: s.settings}
	if err := os.Mkdir(copied.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(copied.dir) })
	if os.Geteuid() == 0 {
		if err := os.Chown(copied.dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	out, err := copied.command("pg_basebackup", "-h", s.dir, "-U", "postgres", "-D", copied.data(), "-X", "stream", "--no-sync", "-c", "fast").CombinedOutput()
	if err != nil {
		t.Fatalf("cannot take a base backup: %v\n%s", err, out)
	}
	return func() *Server {
		t.Helper()
		if err := copied.run(); err != nil {
			t.Fatalf("cannot start PostgreSQL from a base backup: %v", err)
		}
		t.Cleanup(copied.remove)
		return copied
	}
}

// URL returns the connection string that another server's schema has on this one.
func (s *Server) URL(of *Server, url string) string { return strings.ReplaceAll(url, of.dir, s.dir) }

func find(t testing.TB) string {
	t.Helper()
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if found, err := exec.LookPath("initdb"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil {
			places = append(places, found)
		}
	}
	if len(places) == 0 {
		t.Skip("SKIPPED: there is no PostgreSQL here; tools/get-postgres gets it")
	}
	return filepath.Dir(places[len(places)-1])
}

// Memory returns a directory for files that need not outlive the tests, "" for the usual one.
func Memory() string {
	const shm = "/dev/shm" // of Linux
	if dir, err := os.MkdirTemp(shm, "outbox"); err == nil && os.Remove(dir) == nil {
		return shm
	}
	return ""
}

func start(parent, programs string, settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "outbox-pg")
	if err != nil {
		return nil, err
	}
	s := &Server{programs: programs, dir: dir, settings: settings}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return nil, err
		}
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err == nil {
		err = s.run()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) run() error {
	options := "-c listen_addresses='' -c unix_socket_directories=" + s.dir
	for _, setting := range s.settings {
		options += " -c " + setting
	}
	cmd := s.control("start", "-w", "-t", "60", "-l", filepath.Join(s.dir, "log"), "-o", options)
	// Not a pipe: the server would keep it open.
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(log))
	}
	return nil
}

func (s *Server) remove() {
	_ = s.control("stop", "-m", "immediate").Run()
	_ = os.RemoveAll(s.dir)
}

func (s *Server) control(verb string, args ...string) *exec.Cmd {
	return s.command("pg_ctl", append([]string{verb, "-D", s.data()}, args...)...)
}

// nobody is the user that a server runs as which root starts: PostgreSQL refuses root.
const nobody = 65534

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, name), args...)
	cmd.Dir = s.dir
	cmd.WaitDelay = time.Second
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}
