"""Where does a profile hold?"""
