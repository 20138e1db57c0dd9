"""Where a job's pictures are among what the host shows: grid first, masks and others' pictures in between."""

from __future__ import annotations

from collections.abc import Sequence

from .entry import Entry
from .files import known_file


class Gallery:
    """``processed`` of a job with these pictures."""

    def __init__(self, p, processed, entries: Sequence[Entry]):
        self.p, self.processed, self.entries = p, processed, entries
        self.first = processed.index_of_first_image

    def place(self, entry: Entry) -> int | None:
        """Of a picture among the images; None where another extension put something else in its place."""
        images = self.processed.images
        found = next((i for i, image in enumerate(images) if image is entry.image), None)
        if found is None and entry.image is None and len(images) - self.first == len(self.entries):
            found = self.first + self.entries.index(entry)  # a host without the hook that tells
        return found

    def text(self, entry: Entry) -> str:
        at = self._text_at(entry)
        return "" if at is None else self.processed.infotexts[at]

    def put(self, entry: Entry, at: int, image, text: str) -> None:
        """Another image and text in a picture's place."""
        from modules.shared import opts

        processed = self.processed
        if (found := self._text_at(entry)) is not None:
            processed.infotexts[found] = text
            if found == 0:
                processed.info = text
        if opts.enable_pnginfo:
            image.info["parameters"] = text
        processed.images[at] = entry.image = image

    def _text_at(self, entry: Entry) -> int | None:
        """Texts are of pictures alone, and not of masks."""
        at = self.first + (self.entries.index(entry) if entry.place is None else entry.place)
        return at if at < len(self.processed.infotexts) else None

    def renew_composite(self, entry: Entry, at: int, text: str, files) -> str:
        """After an inpainted picture and its mask the host shows the picture cut out by the mask: anew, too.

        Returns what could not be made anew, "" for nothing.
        """
        from modules.shared import opts

        mask, images = getattr(self.p, "mask_for_overlay", None), self.processed.images
        at += 2 if opts.return_mask else 1
        if mask is None or not (opts.return_mask_composite or opts.save_mask_composite):
            return ""
        if not opts.return_mask_composite or at >= len(images):
            return "the masked composites that were saved are of the student's pictures"
        composite, file = entry.picture.frame.cut_out(entry.teacher, mask), known_file(images[at])
        if file is not None:
            files.write(composite, file, text)
        images[at] = composite
        return ""

    def renew_grid(self, files) -> None:
        """Of the pictures as they are now: the one that is shown, and the file."""
        from modules import images
        from modules.shared import opts

        p, processed = self.p, self.processed
        pictures = processed.images[self.first : self._end()]
        wanted = len(pictures) > 1 or not opts.grid_only_if_multiple
        file = files.last if opts.grid_save and not p.do_not_save_grid and wanted else None
        if not pictures or (self.first != 1 and file is None):
            return
        grid = images.image_grid(pictures, p.batch_size)
        if self.first == 1:
            if opts.enable_pnginfo:
                grid.info["parameters"] = processed.infotexts[0]
            processed.images[0] = grid
        if file is not None:  # the host's last one
            files.write(grid, file.path, file.text)

    def _end(self) -> int:
        """After the last picture and its masks; what follows was added by other extensions, not to the grid."""
        from modules.shared import opts

        places = [at for entry in self.entries if (at := self.place(entry)) is not None]
        masks = getattr(self.p, "mask_for_overlay", None) is not None
        shown = masks * (bool(opts.return_mask) + bool(opts.return_mask_composite))
        return min(max(places) + 1 + shown, len(self.processed.images)) if places else self.first
