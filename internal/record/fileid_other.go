//go:build !unix

package record

func fileID(path string) (string, error) { return path, nil }
