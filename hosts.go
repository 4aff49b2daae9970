package graphretry

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// host is a host whose calls are ours.
type host struct {
	name string // lower case
	port string // "": every port
}

func parseHost(s string) (host, bool) {
	name, port := s, ""
	if strings.Count(s, ":") == 1 || strings.HasPrefix(s, "[") && !strings.HasSuffix(s, "]") {
		var err error
		if name, port, err = net.SplitHostPort(s); err != nil {
			return host{}, false
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return host{}, false
		}
	}
	if strings.HasPrefix(name, "[") {
		name = strings.TrimSuffix(name[1:], "]")
	}
	if name == "" || strings.ContainsAny(name, " \t\r\n/?#@%*[]") {
		return host{}, false
	}
	return host{strings.ToLower(name), port}, true
}

// matches reports whether a URL's host is h.
func (h *host) matches(u *url.URL) bool {
	if !strings.EqualFold(u.Hostname(), h.name) {
		return false
	}
	port := u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	return h.port == "" || h.port == port
}

// isPlainly reports whether a URL's host is h, for what nearly every call has, without
// taking it apart.
func (h *host) isPlainly(u *url.URL) bool { return h.port == "" && u.Host == h.name }

// defaultPort returns the port of a URL that has none.
func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}
