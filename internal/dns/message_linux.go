package dns

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the protocol (RFC 1035, 3596, 6891).
const (
	headerSize = 12

	flagResponse   = 1 << 15
	flagAuthority  = 1 << 10
	flagTruncated  = 1 << 9
	flagRecursion  = 1 << 8 // desired
	flagRecursive  = 1 << 7 // available
	maskOpcode     = 0xf << 11
	maskRcode      = 0xf
	rcodeFormat    = 1
	rcodeServfail  = 2
	rcodeNoName    = 3
	rcodeNotImpl   = 4
	rcodeRefused   = 5
	rcodeBadVers   = 16
	typeA          = 1
	typePTR        = 12
	typeAAAA       = 28
	typeOPT        = 41
	typeANY        = 255
	classIN        = 1
	optSize        = 11 // an OPT record without options
	plainSize      = 512
	maxUDPSize     = 4096 // more than that no path carries well, and it is what we say we take
	maxTCPSize     = 65535
	maxName        = 255
	answerOverhead = 12 // a record: pointer to the question, type, class, TTL, length

	// ttl of local answers, in seconds. A restarted container may have another
	// address; glibc does not cache at all, but nscd, Java and proxies do.
	ttl = 5
)

// query is a parsed question.
type query struct {
	msg         []byte // the whole message
	flags       uint16
	name        []byte // lower case, without the dot at the end; empty for the root
	qtype       uint16
	class       uint16
	end         int // of the question in msg
	edns        bool
	ednsVersion byte
	size        int // of the largest answer by UDP
	extended    byte
	buf         [maxName]byte // of name
}

// parse reads a query. It reports false for what deserves no answer; otherwise
// rcode other than 0 is to be answered as such. It is written by hand, not with
// a library, because nothing but the question and EDNS matters here and because
// the answer repeats the question byte for byte; nothing is allocated.
func (q *query) parse(msg []byte) (rcode int, ok bool) {
	*q = query{msg: msg, size: plainSize, end: headerSize}
	if len(msg) < headerSize {
		return 0, false
	}
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagResponse != 0 {
		return 0, false // or two resolvers could answer each other for ever
	}
	if q.flags&maskOpcode != 0 {
		return rcodeNotImpl, true
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return rcodeFormat, true
	}
	end := q.readName(headerSize)
	if end < 0 || end+4 > len(msg) {
		return rcodeFormat, true
	}
	q.qtype, q.class = binary.BigEndian.Uint16(msg[end:]), binary.BigEndian.Uint16(msg[end+2:])
	q.end = end + 4
	return q.readEDNS()
}

// readName reads the question's name and returns where it ends, -1 if it is no
// name. A question has nothing before it that it could point to.
func (q *query) readName(at int) int {
	n := 0
	for at < len(q.msg) {
		l := int(q.msg[at])
		at++
		if l == 0 {
			if n > 0 {
				n-- // the last dot
			}
			q.name = q.buf[:n]
			return at
		}
		if l > 63 || at+l > len(q.msg) || n+l+1 > maxName-1 {
			return -1
		}
		for _, c := range q.msg[at : at+l] {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
			case c == '.':
				c = 0 // within a label it separates nothing, and no name of ours has such
			}
			q.buf[n] = c
			n++
		}
		q.buf[n] = '.'
		n++
		at += l
	}
	return -1
}

// readEDNS looks for an OPT record behind the question.
func (q *query) readEDNS() (rcode int, ok bool) {
	msg, at := q.msg, q.end
	records := 0
	for i := 6; i < headerSize; i += 2 {
		records += int(binary.BigEndian.Uint16(msg[i:]))
	}
	for range records {
		at = skipName(msg, at)
		if at < 0 || at+10 > len(msg) {
			return rcodeFormat, true
		}
		length := int(binary.BigEndian.Uint16(msg[at+8:]))
		if at+10+length > len(msg) {
			return rcodeFormat, true
		}
		if binary.BigEndian.Uint16(msg[at:]) == typeOPT {
			if q.edns {
				return rcodeFormat, true
			}
			q.edns, q.ednsVersion = true, msg[at+5]
			q.size = min(max(int(binary.BigEndian.Uint16(msg[at+2:])), plainSize), maxUDPSize)
		}
		at += 10 + length
	}
	return 0, true
}

func skipName(msg []byte, at int) int {
	for at < len(msg) {
		l := int(msg[at])
		switch {
		case l == 0:
			return at + 1
		case l&0xc0 == 0xc0:
			return at + 2
		case l > 63:
			return -1
		}
		at += 1 + l
	}
	return -1
}

// begin writes header and question of the answer to q; finish completes it.
// An rcode above 15 needs EDNS.
func (q *query) begin(out []byte, rcode int, flags uint16) []byte {
	out = append(out[:0], q.msg[:headerSize]...)
	flags |= flagResponse | flagRecursive | q.flags&(maskOpcode|flagRecursion) | uint16(rcode&maskRcode)
	q.extended = byte(rcode >> 4)
	binary.BigEndian.PutUint16(out[2:], flags)
	clear(out[4:])
	if q.end > headerSize {
		out[5] = 1
		out = append(out, q.msg[headerSize:q.end]...)
	}
	return out
}

// fits reports whether out may grow by a record with that much data.
func (q *query) fits(out []byte, data, limit int) bool {
	if q.edns {
		limit -= optSize
	}
	return len(out)+answerOverhead+data <= limit
}

// answer adds a record for the name of the question.
func (q *query) answer(out []byte, rtype uint16, data []byte) []byte {
	out = append(out, 0xc0, headerSize)
	out = binary.BigEndian.AppendUint16(out, rtype)
	out = binary.BigEndian.AppendUint16(out, classIN)
	out = binary.BigEndian.AppendUint32(out, ttl)
	out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
	out = append(out, data...)
	binary.BigEndian.PutUint16(out[6:], binary.BigEndian.Uint16(out[6:])+1)
	return out
}

func (q *query) finish(out []byte) []byte {
	if q.edns {
		out = append(out, 0, 0, typeOPT, maxUDPSize>>8, maxUDPSize&0xff, q.extended, 0, 0, 0, 0, 0)
		out[11] = 1
	}
	return out
}

// fail is an answer that is nothing but an rcode.
func (q *query) fail(out []byte, rcode int) []byte {
	return q.finish(q.begin(out, rcode, 0))
}

// truncate cuts a message down to its question, so that the client asks again
// by TCP.
func truncate(msg []byte, question int) []byte {
	msg = msg[:question]
	msg[2] |= flagTruncated >> 8
	clear(msg[6:headerSize])
	return msg
}

// appendName writes a dotted name as labels; nil if it is no name.
func appendName(b []byte, name string) []byte {
	start := len(b)
	b = append(b, 0)
	label := start
	for i := 0; i < len(name); i++ {
		if name[i] != '.' {
			b = append(b, name[i])
			continue
		}
		if !closeLabel(b, label) {
			return nil
		}
		label = len(b)
		b = append(b, 0)
	}
	if !closeLabel(b, label) || len(b)-start+1 > maxName {
		return nil
	}
	return append(b, 0)
}

func closeLabel(b []byte, label int) bool {
	n := len(b) - label - 1
	if n < 1 || n > 63 {
		return false
	}
	b[label] = byte(n)
	return true
}

// reverse reads the name of a PTR question: 4.3.2.1.in-addr.arpa, or nibbles
// below ip6.arpa.
func reverse(name []byte) (addr netip.Addr, ok bool) {
	if rest, ok := cutSuffix(name, ".in-addr.arpa"); ok {
		var a [4]byte
		for i := 3; i >= 0; i-- {
			n, digits := 0, 0
			for len(rest) > 0 && rest[0] != '.' {
				if rest[0] < '0' || rest[0] > '9' || digits == 3 {
					return addr, false
				}
				n, digits, rest = n*10+int(rest[0]-'0'), digits+1, rest[1:]
			}
			if digits == 0 || n > 255 || (len(rest) > 0) != (i > 0) {
				return addr, false
			}
			if i > 0 {
				rest = rest[1:]
			}
			a[i] = byte(n)
		}
		return netip.AddrFrom4(a), true
	}
	rest, ok := cutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return addr, false
	}
	var a [16]byte
	for i := range 32 {
		c := rest[2*i]
		if i < 31 && rest[2*i+1] != '.' {
			return addr, false
		}
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return addr, false
		}
		a[15-i/2] |= c << (4 * (i % 2))
	}
	return netip.AddrFrom16(a), true
}

func cutSuffix(b []byte, suffix string) ([]byte, bool) {
	if n := len(b) - len(suffix); n >= 0 && string(b[n:]) == suffix {
		return b[:n], true
	}
	return b, false
}
