//go:build unix

// Package pgtest starts PostgreSQL servers for tests.
package pgtest

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
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

// Server is a PostgreSQL server for one test.
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

// URL returns the connection string of a new, empty schema on a server that the tests of a
// package share. Without PostgreSQL the test is skipped.
func URL(t testing.TB) string {
	t.Helper()
	programs := find(t)
	// Its data does not outlive the tests, so it needs no disk.
	sharedOnce.Do(func() { shared, sharedError = start(Memory(), programs, "max_connections=500") })
	if sharedError != nil {
		t.Fatalf("cannot start PostgreSQL: %v", sharedError)
	}
	return shared.Schema(t)
}

// Ahead is URL for a server whose clock is that far ahead.
func Ahead(t testing.TB, by time.Duration) string {
	t.Helper()
	url := URL(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, clock := range []string{"statement_timestamp", "clock_timestamp"} {
		_, err := db.Exec(fmt.Sprintf("CREATE FUNCTION %[1]s() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT pg_catalog.%[1]s() + interval '%[2]d seconds' $$", clock, int(by.Seconds())))
		if err != nil {
			t.Fatal(err)
		}
	}
	return url + ",pg_catalog" // otherwise PostgreSQL searches it first
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

// Schema creates a schema, and returns the connection string for it.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d_%d", os.Getpid(), schemas.Add(1))
	s.exec(t, "CREATE SCHEMA "+name)
	return s.url(name)
}

func (s *Server) url(schema string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=postgres search_path=%s", s.dir, schema)
}

// Small starts a server whose tables have a disk of that many bytes, which is in memory. Its
// log is on another disk. It also returns the folder of the tables. The test is skipped if no
// such disk can be mounted: only root can, on Linux.
func Small(t testing.TB, bytes int, settings ...string) (s *Server, folder string) {
	t.Helper()
	programs := find(t)
	folder, err := os.MkdirTemp("", "outbox-small")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(folder) })
	mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("mode=700,uid=%d,gid=%d,size=%d", nobody, nobody, bytes), "tmpfs", folder)
	if out, err := mount.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("cannot unmount a small disk: %v %s", err, out)
		}
	})
	s, err = start("", programs, settings...)
	if err != nil {
		t.Fatalf("cannot start PostgreSQL: %v", err)
	}
	t.Cleanup(s.remove)
	s.exec(t, fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", folder))
	s.exec(t, "ALTER DATABASE postgres SET default_tablespace = small")
	return s, folder
}

func (s *Server) exec(t testing.TB, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", s.url("public"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Slow returns a connection string that leads to the server through a proxy, which delays
// answers for that long when it is told to.
func (s *Server) Slow(t testing.TB, url string, delay time.Duration) (slow string, late *atomic.Bool) {
	t.Helper()
	late = new(atomic.Bool)
	dir, err := os.MkdirTemp("", "outbox-slow") // the name of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(s.dir, socket))
			if err != nil {
				client.Close()
				continue
			}
			end := func() { client.Close(); server.Close() }
			all.Go(func() { defer end(); _, _ = io.Copy(server, client) })
			all.Go(func() { defer end(); answer(client, server, late, delay) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait() // the connections' owner has closed them
		os.RemoveAll(dir)
	})
	return strings.ReplaceAll(url, s.dir, dir), late
}

// socket is the name of a server's socket in its folder.
const socket = ".s.PGSQL.5432"

// answer copies the server's answers, at once or late.
func answer(client, server net.Conn, late *atomic.Bool, delay time.Duration) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if late.Load() {
			time.Sleep(delay)
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// Crash stops the server as a loss of power would, except that the disk keeps what was written.
// Go starts it again.
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

// Backup takes a base backup of the server, and returns a function that starts a server with
// that state.
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

// nobody is the user of a server that root starts: PostgreSQL refuses root.
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
