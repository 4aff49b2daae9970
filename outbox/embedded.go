package outbox

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrInUse is in the chain of the error of [Embedded] when another process, or
// another Server in this one, has the directory.
var ErrInUse = errors.New("outbox: the directory is in use by another server")

// startTimeout is how long an embedded server may take to start. It reads the
// directory then.
const startTimeout = time.Minute

// Server is a NATS server with JetStream inside this process, for one machine.
// [Embedded] starts it.
type Server struct {
	server     *server.Server
	connection *nats.Conn
	jetStream  jetstream.JetStream
	lock       *os.File
	token      string
	closed     sync.Once

	mu     sync.Mutex // guards all below
	mended time.Time  // when JetStream was started anew ...
	reason error      // ... and why
}

// EmbeddedOption changes one setting of a [Server].
type EmbeddedOption struct {
	apply func(*server.Options) error
}

// WithListen has the server listen on a TCP address, "host:port", so that other
// processes can share the outbox: see [Server.URL]. Port 0 takes any free port.
// By default it does not listen at all. There is no TLS, so keep to a loopback
// address such as 127.0.0.1:0; for more than one machine run a NATS server
// proper.
func WithListen(address string) EmbeddedOption {
	return EmbeddedOption{func(options *server.Options) error {
		host, port, err := net.SplitHostPort(address)
		number, err2 := strconv.ParseUint(port, 10, 16)
		if err != nil || err2 != nil || host == "" {
			return fmt.Errorf(`outbox: WithListen(%q): want "host:port", as in "127.0.0.1:0"`, address)
		}
		options.DontListen = false
		options.Host = host
		options.Port = cmp.Or(int(number), server.RANDOM_PORT)
		return nil
	}}
}

// WithEncryptionKey encrypts the files of the directory at rest, with ChaCha20-Poly1305 as
// JetStream does it:
// https://docs.nats.io/running-a-nats-service/nats_admin/jetstream_admin/encryption_at_rest.
// The same key must be given at each start. It must have at least 32 bytes; 32 random ones
// are best. By default nothing is encrypted.
func WithEncryptionKey(key []byte) EmbeddedOption {
	return EmbeddedOption{func(options *server.Options) error {
		if len(key) < 32 {
			return fmt.Errorf("outbox: WithEncryptionKey: the key has %d bytes: want at least 32", len(key))
		}
		options.JetStreamKey, options.JetStreamCipher = string(key), server.ChaCha
		return nil
	}}
}

// Embedded starts a NATS server inside this process, whose JetStream keeps its
// files in dir. The directory is made if it is not there, for this user alone.
// Each write is on the disk before it is confirmed, so SIGKILL does not take
// back what [Outbox.Enqueue] has confirmed, nor does a loss of power if the disk
// keeps its word.
//
// A directory serves one Server at a time: the error wraps [ErrInUse] if it has
// one. Close the Server at the end; if the process dies instead, the next one
// goes on where it was.
func Embedded(dir string, opts ...EmbeddedOption) (*Server, error) {
	if dir == "" {
		return nil, errors.New("outbox: Embedded without a directory: want one to keep the messages in")
	}
	token := rand.Text()
	options := server.Options{
		ServerName:    "graphretry-outbox",
		DontListen:    true,
		JetStream:     true,
		StoreDir:      dir,
		SyncAlways:    true,
		NoLog:         true,
		NoSigs:        true,
		Authorization: token,
	}
	var errs []error
	for _, opt := range opts {
		// The zero EmbeddedOption sets nothing.
		if opt.apply != nil {
			errs = append(errs, opt.apply(&options))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("outbox: cannot make the directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "outbox.lock"))
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot have %s to itself: %w", dir, err)
	}
	s := &Server{lock: lock, token: token}
	if err := s.start(&options); err != nil {
		s.Close()
		return nil, fmt.Errorf("outbox: cannot start a server in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Server) start(options *server.Options) error {
	if options.Port > 0 {
		// The server itself would say nothing of an address that is taken.
		listener, err := net.Listen("tcp", net.JoinHostPort(options.Host, strconv.Itoa(options.Port)))
		if err != nil {
			return err
		}
		listener.Close()
	}
	var err error
	if s.server, err = server.NewServer(options); err != nil {
		return err
	}
	s.server.Start()
	if !s.server.ReadyForConnections(startTimeout) {
		return fmt.Errorf("it is not ready after %v", startTimeout)
	}
	s.connection, err = nats.Connect("", nats.InProcessServer(inProcess{s.server}), nats.Token(s.token),
		nats.Name("graphretry outbox"), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	s.jetStream, err = jetstream.New(s.connection)
	return err
}

// JetStream is what [Open] wants. It ends with Close.
func (s *Server) JetStream() jetstream.JetStream { return mending{s.jetStream, s} }

// mending is the JetStream of a server that can be mended.
type mending struct {
	jetstream.JetStream
	server *Server
}

// mendEvery is how often JetStream is started anew at most, and mendFor is for how long
// that explains why a write fails.
const (
	mendEvery = time.Second
	mendFor   = 10 * time.Second
)

// mend reports why the server cannot write, nil if it can. A stream that could not once,
// because the disk was full, never tries again; so mend starts JetStream anew.
func (m mending) mend() error {
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	_, reason, broken := strings.Cut(s.server.Healthz(&server.HealthzOptions{}).Error, "write error: ")
	since := time.Since(s.mended)
	switch {
	case broken && since >= mendEvery:
		s.mended, s.reason = time.Now(), errors.New(reason)
		config := s.server.JetStreamConfig()
		config.StoreDir = filepath.Dir(config.StoreDir) // the server adds a folder of its own
		if err := errors.Join(s.server.DisableJetStream(), s.server.EnableJetStream(config)); err != nil {
			s.reason = fmt.Errorf("%s; and JetStream does not start: %w", reason, err)
		}
	case !broken && since >= mendFor:
		return nil
	}
	return s.reason
}

// URL is where other processes reach the server, for nats.Connect, "" without
// [WithListen]. It holds the token that the server asks for, a new one at each
// start: whoever has the URL can read and write all messages.
func (s *Server) URL() string {
	address, ok := s.server.Addr().(*net.TCPAddr)
	if !ok || address == nil {
		return ""
	}
	u := url.URL{Scheme: "nats", User: url.User(s.token), Host: address.String()}
	return u.String()
}

// Close stops the server. Close the Outboxes in it first. Nothing is lost. Closing
// again does nothing.
func (s *Server) Close() error {
	var err error
	s.closed.Do(func() {
		if s.connection != nil {
			s.connection.Close()
		}
		if s.server != nil {
			s.server.Shutdown()
			s.server.WaitForShutdown()
		}
		err = s.lock.Close() // which unlocks it
	})
	return err
}
