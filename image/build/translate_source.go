package build

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// attributes are those of a source. Whoever knows one takes it out: what is
// left nobody understood, and a source must not be taken for another one.
type attributes map[string]string

func (a attributes) take(name string) string {
	v := a[name]
	delete(a, name)
	return v
}

func (a attributes) list(name string) (list []string, err error) {
	v := a.take(name)
	if v == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(v), &list); err != nil {
		return nil, fault.Invalid("malformed attribute %s: %w", name, err)
	}
	return list, nil
}

// ignore drops what has no meaning here: hints for transfers and sessions that
// there are none of.
func (a attributes) ignore(names ...string) {
	for _, n := range names {
		delete(a, n)
	}
}

func (t *translation) source(s *pb.SourceOp) (op.Op, error) {
	return source(s)
}

// source needs no graph: sources are asked for their metadata alone too.
func source(s *pb.SourceOp) (o op.Op, err error) {
	scheme, rest, ok := strings.Cut(s.GetIdentifier(), "://")
	if !ok {
		return nil, fault.Invalid("malformed source %q", s.GetIdentifier())
	}
	a := attributes(maps.Clone(s.Attrs))
	if a == nil {
		a = attributes{}
	}
	switch scheme {
	case "docker-image":
		o, err = imageSource(rest, a)
	case "oci-layout":
		o = layoutSource(rest, a)
	case "local":
		o, err = localSource(rest, a)
	case "git":
		o, err = gitSource(rest, a)
	case "http", "https":
		o, err = httpSource(s.Identifier, a)
	default:
		return nil, unsupported("a source %s", s.Identifier)
	}
	if err != nil {
		return nil, err
	}
	if left := slices.Sorted(maps.Keys(a)); len(left) > 0 {
		return nil, unsupported("a source %s with the attribute %s", s.Identifier, left[0])
	}
	return o, nil
}

func imageSource(ref string, a attributes) (op.Op, error) {
	mode := a.take(pb.AttrImageResolveMode)
	switch mode {
	case pb.AttrImageResolveModeDefault:
		mode = ""
	case "", pb.AttrImageResolveModeForcePull, pb.AttrImageResolveModePreferLocal:
	default:
		return nil, fault.Invalid("image %s: unknown resolve mode %q", ref, mode)
	}
	a.ignore(pb.AttrImageRecordType)
	return &op.Image{Ref: ref, Mode: mode}, nil
}

func layoutSource(ref string, a attributes) op.Op {
	name := a.take(pb.AttrOCILayoutStoreID)
	a.ignore(pb.AttrOCILayoutSessionID)
	if name == storeLayout {
		_, d, _ := strings.Cut(ref, "@") // the name is the context's, which says nothing
		return &op.Image{Ref: d, Mode: pb.AttrImageResolveModePreferLocal}
	}
	return &op.Layout{Name: name, Ref: ref}
}

func localSource(name string, a attributes) (op.Op, error) {
	l := &op.Local{Name: name}
	for attr, list := range map[string]*[]string{
		pb.AttrIncludePatterns: &l.Include, pb.AttrExcludePatterns: &l.Exclude, pb.AttrFollowPaths: &l.Follow,
	} {
		var err error
		if *list, err = a.list(attr); err != nil {
			return nil, err
		}
	}
	a.ignore(pb.AttrLocalSessionID, pb.AttrLocalUniqueID, pb.AttrSharedKeyHint, pb.AttrLocalDiffer)
	return l, nil
}

func httpSource(url string, a attributes) (op.Op, error) {
	h := &op.HTTP{URL: url, Checksum: digest.Digest(a.take(pb.AttrHTTPChecksum)), Filename: a.take(pb.AttrHTTPFilename), Secret: a.take(pb.AttrHTTPAuthHeaderSecret)}
	if h.Checksum != "" {
		if err := h.Checksum.Validate(); err != nil {
			return nil, fault.Invalid("checksum of %s: %w", url, err)
		}
	}
	mode, uid, gid := a.take(pb.AttrHTTPPerm), a.take(pb.AttrHTTPUID), a.take(pb.AttrHTTPGID)
	if mode != "" {
		m, err := strconv.ParseUint(mode, 8, 32)
		if err != nil {
			return nil, fault.Invalid("mode of %s: %w", url, err)
		}
		h.Mode = uint32(m)
	}
	var err error
	if h.UID, err = number(uid); err != nil {
		return nil, fault.Invalid("owner of %s: %w", url, err)
	}
	if h.GID, err = number(gid); err != nil {
		return nil, fault.Invalid("group of %s: %w", url, err)
	}
	for k, v := range a {
		if name, ok := strings.CutPrefix(k, pb.AttrHTTPHeaderPrefix); ok {
			if h.Header == nil {
				h.Header = map[string]string{}
			}
			h.Header[name] = v
			delete(a, k)
		}
	}
	return h, nil
}

func number(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.Atoi(s)
}

// gitSource takes the URL from its attribute: the identifier is the same for
// all protocols.
func gitSource(id string, a attributes) (op.Op, error) {
	repository, fragment, _ := strings.Cut(id, "#")
	ref, dir, _ := strings.Cut(fragment, ":")
	g := &op.Git{
		Remote: a.take(pb.AttrFullRemoteURL), Ref: ref, Dir: dir,
		Checksum: a.take(pb.AttrGitChecksum), MTime: a.take(pb.AttrGitMTime),
		TokenSecret: a.take(pb.AttrAuthTokenSecret), HeaderSecret: a.take(pb.AttrAuthHeaderSecret),
		KnownHosts: a.take(pb.AttrKnownSSHHosts), SSH: a.take(pb.AttrMountSSHSock),
	}
	if g.Remote == "" {
		g.Remote = "https://" + repository
	}
	if g.MTime == "checkout" {
		g.MTime = ""
	}
	for name, field := range map[string]*bool{
		pb.AttrKeepGitDir: &g.KeepGitDir, pb.AttrGitSkipSubmodules: &g.SkipSubmodules, pb.AttrGitFetchByCommit: &g.FetchByCommit,
	} {
		if v := a.take(name); v != "" {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, fault.Invalid("attribute %s of %s: %w", name, g.Remote, err)
			}
			*field = b
		}
	}
	a.ignore(pb.AttrGitAdvice)
	return g, nil
}
