import unittest

from billsplit import split


class Split(unittest.TestCase):
    def test_even_amounts_are_shared_evenly(self):
        self.assertEqual(split(900, 3), [300, 300, 300])

    def test_no_cent_is_lost(self):
        self.assertEqual(sum(split(1000, 3)), 1000)


if __name__ == "__main__":
    unittest.main()
