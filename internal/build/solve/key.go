package solve

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"github.com/amphora-go/amphora/internal/build/op"
)

// generation goes into every key: a change in what operations do makes
// whatever older versions left unknown.
const generation = "1"

// hash is that of a list of strings: no two lists have the same input.
func hash(parts ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, p := range append([]string{generation}, parts...) {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// what is the operation itself: its JSON, and the platform where that decides
// what comes out.
func what(v *op.Vertex) (string, error) {
	data, err := json.Marshal(v.Op)
	if err != nil {
		return "", err
	}
	p := v.Platform
	switch v.Op.(type) {
	case *op.Exec, *op.Image, *op.Layout:
		return v.Op.Kind() + " " + p.OS + "/" + p.Architecture + "/" + p.Variant + "/" + p.OSVersion + " " + string(data), nil
	}
	return v.Op.Kind() + " " + string(data), nil
}

// structure identifies a vertex within this build: vertices that do the same to
// the same inputs are one, whichever conversion they come from.
func (b *Build) structure(v *op.Vertex) (string, error) {
	b.mu.Lock()
	key, ok := b.keys[v]
	b.mu.Unlock()
	if ok {
		return key, nil
	}
	w, err := what(v)
	if err != nil {
		return "", err
	}
	parts := []string{w, strconv.FormatBool(v.NoCache)}
	for _, in := range v.Inputs {
		s, err := b.structure(in.Vertex)
		if err != nil {
			return "", err
		}
		parts = append(parts, s, strconv.Itoa(in.Index))
	}
	key = hash(parts...)
	b.mu.Lock()
	b.keys[v] = key
	b.mu.Unlock()
	return key, nil
}

// definition is the key of an operation on results.
func definition(v *op.Vertex, inputs []*output) (string, error) {
	w, err := what(v)
	if err != nil {
		return "", err
	}
	parts := []string{"definition", w}
	for _, in := range inputs {
		parts = append(parts, in.id)
	}
	return hash(parts...), nil
}

// forOutput tells the outputs of one operation apart.
func forOutput(key string, index int) string {
	if index == 0 {
		return key
	}
	return hash("output", key, strconv.Itoa(index))
}
