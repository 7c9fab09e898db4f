// Command golog verifies a log of Bailiwick with the Go project's own packages for transparency logs, so that the formats do
// not rest on one implementation. It shares no code with the rest of this repository.
//
//	golog VKEY log DIRECTORY [KEPT CHECKPOINT FILE]
//	golog VKEY receipt RECEIPT ENTRY
//
// The first verifies the checkpoint, every tile and every entry, and that the log begins with the kept one. The second verifies
// a tlog-proof receipt for the entry in a file. It exits with 1 and says what is wrong if anything is.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The height of a tile (C2SP tlog-tiles).
const height = 8

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "golog:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: golog VKEY log DIRECTORY [KEPT] | golog VKEY receipt RECEIPT ENTRY")
	}
	verifier, err := note.NewVerifier(args[0])
	if err != nil {
		return err
	}
	switch {
	case args[1] == "log" && len(args) <= 4:
		kept := ""
		if len(args) == 4 {
			kept = args[3]
		}
		return verifyLog(args[2], verifier, kept)
	case args[1] == "receipt" && len(args) == 4:
		return verifyReceipt(args[2], args[3], verifier)
	}
	return errors.New("unknown arguments")
}

// checkpoint opens a signed note and reads the three lines of a checkpoint.
func checkpoint(signed []byte, verifier note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tree, errors.New("checkpoint: not one of this log")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, fmt.Errorf("checkpoint: %w", err)
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

func verifyLog(directory string, verifier note.Verifier, keptPath string) error {
	signed, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := checkpoint(signed, verifier)
	if err != nil {
		return err
	}
	if tree.N > 0 {
		if err := verifyTiles(directory, tree); err != nil {
			return err
		}
	}
	if keptPath != "" {
		return verifyKept(directory, tree, keptPath, verifier)
	}
	return nil
}

// verifyTiles reads every hash of every tile, which the reader authenticates against the root, and compares the leaves with
// the hashes of the entries.
func verifyTiles(directory string, tree tlog.Tree) error {
	hashes := tlog.TileHashReader(tree, tiles{directory})
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		// Of the tiles of one place only the widest is in the tree.
		if (tile.N<<height)+int64(tile.W) != min(tree.N>>(height*tile.L), (tile.N+1)<<height) {
			continue
		}
		indexes := make([]int64, tile.W)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(height*tile.L, (tile.N<<height)+int64(i))
		}
		stored, err := hashes.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("%s: %w", c2sp(tile), err)
		}
		if tile.L > 0 {
			continue
		}
		entries, err := readBundle(directory, tile)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != stored[i] {
				return fmt.Errorf("entry %d is not the one in the tree", (tile.N<<height)+int64(i))
			}
		}
	}
	return nil
}

func verifyKept(directory string, tree tlog.Tree, path string, verifier note.Verifier) error {
	signed, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	kept, err := checkpoint(signed, verifier)
	if err != nil {
		return err
	}
	switch {
	case kept.N > tree.N:
		return fmt.Errorf("the log shrank from %d to %d entries", kept.N, tree.N)
	case kept.N == tree.N && kept.Hash != tree.Hash:
		return errors.New("history was rewritten")
	case kept.N == tree.N || kept.N == 0:
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, kept.N, tlog.TileHashReader(tree, tiles{directory}))
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, kept.N, kept.Hash); err != nil {
		return fmt.Errorf("history was rewritten: %w", err)
	}
	return nil
}

// verifyReceipt reads a C2SP tlog-proof and checks it for the entry.
func verifyReceipt(receiptPath, entryPath string, verifier note.Verifier) error {
	receipt, err := os.ReadFile(receiptPath)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryPath)
	if err != nil {
		return err
	}
	head, signed, found := bytes.Cut(receipt, []byte("\n\n"))
	if !found {
		return errors.New("receipt: no checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("receipt: not a tlog-proof")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("receipt: no index")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != tlog.HashSize {
			return errors.New("receipt: a line is not a hash")
		}
		var hash tlog.Hash
		copy(hash[:], raw)
		proof = append(proof, hash)
	}
	tree, err := checkpoint(signed, verifier)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

// tiles reads tiles from a directory that C2SP lays out.
type tiles struct{ directory string }

func (t tiles) Height() int { return height }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(wanted))
	for i, tile := range wanted {
		bytes, err := os.ReadFile(filepath.Join(t.directory, c2sp(tile)))
		if err != nil {
			return nil, err
		}
		if len(bytes) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", c2sp(tile), len(bytes))
		}
		data[i] = bytes
	}
	return data, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func readBundle(directory string, tile tlog.Tile) ([][]byte, error) {
	path := strings.Replace(c2sp(tile), "tile/0/", "tile/entries/", 1)
	rest, err := os.ReadFile(filepath.Join(directory, path))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(rest) > 0 {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("%s: an entry is cut off", path)
		}
		length := 2 + int(binary.BigEndian.Uint16(rest))
		entries = append(entries, rest[2:length])
		rest = rest[length:]
	}
	if len(entries) != tile.W {
		return nil, fmt.Errorf("%s holds %d entries, not %d", path, len(entries), tile.W)
	}
	return entries, nil
}

// c2sp is a tile's path without the height, which C2SP fixes.
func c2sp(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
